"""`python -m streamflow`: the same as the command `streamflow`."""

from streamflow.cli import main

main()
