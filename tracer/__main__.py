"""`python -m tracer`."""

from tracer.launch import main

main()
