"""The command line `dresd`, a module a group of commands."""
