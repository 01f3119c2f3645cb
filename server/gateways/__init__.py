"""Between gateways: the listener where others come in by ticket, and the way to them."""
