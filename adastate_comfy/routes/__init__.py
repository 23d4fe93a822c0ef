"""What the page asks the server for: `streams` has the routes, `guard` says who may use them."""
