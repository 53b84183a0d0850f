# The rows of one table of Docs/comparison.md, out of a table.csv.
#
# In:  table.csv of `lrqk compare`; -v table=device or table=moved.
# Out: a line a method: mean score ± standard error at every budget, KiB held when an answer ends,
#      KiB moved a token (not in the table of equal moved bytes). In front stands the sum of the
#      scores, by which `sort` brings the best methods to the top and which `cut` takes away:
#
#   awk -F, -v table=device -f Examples/Comparison/rows.awk Examples/Comparison/needles/table.csv \
#     | sort -rs -k1,1 | cut -d' ' -f2-

$2 == table && $5 == "mean" {
  if (!($4 in known)) { known[$4] = 1; methods[++count] = $4 }
  if ($3 == "all" && table == "moved") next
  text = "-"; held = "-"; moved = "-"
  if ($7 != "") {
    text = sprintf("%.0f ± %.0f", $7, $8)
    held = sprintf("%.0f", $15 / 1024)
    moved = sprintf("%.0f", $17 / 1024)
    total[$4] += $7
  }
  score[$4, $3] = text; bytes[$4, $3] = held; moves[$4, $3] = moved
  if (!($3 in seen)) { seen[$3] = 1; if ($3 != "all") budgets[++steps] = $3 }
}

END {
  for (n = 1; n <= count; n++) {
    method = methods[n]
    if ((method, "all") in score) {
      printf "%09.4f | `%s` | %s |", 3 * total[method], method, score[method, "all"]
      for (s = 2; s <= steps; s++) printf " |"
      printf " %s | %s |\n", bytes[method, "all"], moves[method, "all"]
      continue
    }
    if (!((method, budgets[1]) in score)) continue
    printf "%09.4f | `%s` |", total[method], method
    held = ""; moved = ""; fits = 0
    for (s = 1; s <= steps; s++) {
      printf " %s |", score[method, budgets[s]]
      held = held (s > 1 ? ", " : "") bytes[method, budgets[s]]
      moved = moved (s > 1 ? ", " : "") moves[method, budgets[s]]
      if (score[method, budgets[s]] != "-") fits = 1
    }
    printf " %s |", fits ? held : "-"
    if (table != "moved") printf " %s |", fits ? moved : "-"
    printf "\n"
  }
}
