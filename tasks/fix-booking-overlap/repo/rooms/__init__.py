from rooms.calendar import Calendar, Conflict

__all__ = ["Calendar", "Conflict"]
