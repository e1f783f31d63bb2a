"""What a database that is away looks like."""

from __future__ import annotations

from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError

DATABASE_AWAY = (OperationalError, InterfaceError, PendingRollbackError)
"""Raised where a database ends or is gone: only it can say, once it is back, whether it has what was written last."""
