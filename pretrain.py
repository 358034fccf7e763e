"""`python pretrain.py`: see --help."""

from ssl_lt.cli.main import run_command

if __name__ == "__main__":
    run_command("pretrain")
