"""Who may do what: rules and limits of one file, and the guard that keeps to them."""
