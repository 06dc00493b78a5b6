"""The service behind ``mailnet serve``: predictions over HTTP, and the page that shows them."""
