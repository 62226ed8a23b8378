"""Run the command line: ``python -m reps_opt --help``."""

from reps_opt.command_line import app

if __name__ == "__main__":
    app(prog_name="python -m reps_opt")
