"""Tables and figures, made from run folders alone. Left out: HTML and the trace viewer."""
