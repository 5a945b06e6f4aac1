"""Make a static embedding model from a sentence transformer and plain text. Needs the packages of `memcli[train]`.

`teacher` gives the vectors to learn, `vocabulary` makes the tokenizer, `training` learns a vector per token, `graph`
writes the model, `scores` measures it, `distilling` puts them in order.
"""
