void chains_placeholder(void);
