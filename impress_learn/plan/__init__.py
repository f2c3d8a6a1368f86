"""What is to be done, checked before anything is computed: a bank, the parts of a task, tasks."""
