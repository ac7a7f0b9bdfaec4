"""A folder becomes a frozen Task: manifest, starter repo, template file; repos that are cloned."""
