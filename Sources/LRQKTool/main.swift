print("lrqk")
