"""The same small library in FastAPI, in Flask and in Django: readers in one database, what they borrow in another."""
