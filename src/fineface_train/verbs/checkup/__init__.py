"""What `fineface doctor` looks at: the machine, what is missing, a trial on made-up examples, time and disk."""
