"""`python -m ssl_lt` is `ssl-lt`."""

from ssl_lt.cli.main import main

main()
