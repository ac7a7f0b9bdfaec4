"""Reports: a view model made from records, and what renders it."""
