"""Episodes: the loop that samples actions, and the vector environments that it steps."""
