"""Messages and collectives: who met whom, who waited, how many bytes per second."""
