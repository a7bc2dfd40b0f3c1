"""The kinds of input: what each is, which columns it has, and how its rows and predictions travel."""
