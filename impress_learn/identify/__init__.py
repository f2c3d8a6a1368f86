"""Which task are these images of? (docs/method.md, Which task)"""
