"""What a client holds is good at each of several gateways: what one cannot answer itself goes to the one that can."""
