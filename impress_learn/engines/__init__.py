"""Where independent trainings run: in this process, or in several beside each other."""
