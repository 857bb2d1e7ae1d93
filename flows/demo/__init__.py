"""``softcon demo``: the whole chain on this machine, without credentials, and a page about it."""
