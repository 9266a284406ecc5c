"""Which items of a history are masked, what takes their places, and when a history stays as it is."""
