"""What other nodes' sockets carry, as values of a stream and back."""
