"""Divergences: what "close to the data" means, one module an idea; :mod:`.base` says what each must know."""
