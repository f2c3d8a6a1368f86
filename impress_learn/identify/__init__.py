"""Which task are these images of? Candidates, methods, and how well they do (docs/method.md, Which task)."""
