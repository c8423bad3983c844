"""What is the same in supervisorctl and in the command: the verbs, what they are given and what they show."""
