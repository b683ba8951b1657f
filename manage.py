#!/usr/bin/env python
"""Django's command line for this project."""

import os
import re
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evalsite.settings")
    from django.core.management import execute_from_command_line
    from django.db import DatabaseError

    try:
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:  # somebody's wish, not a fault that wants a traceback
        sys.exit(130)
    except DatabaseError as error:
        if re.search("no such (table|column)|(relation|column) .* does not exist", str(error)):
            sys.exit(f"{error}\nThis database is new or older than the code: manage.py migrate")
        raise


if __name__ == "__main__":
    main()
