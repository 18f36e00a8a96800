"""A hospital's models in a module of their own: a desk in PostgreSQL, a till in MySQL, and an archive kept by rules."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument
from fedorm.sync import CDC, RealTime, SyncRule


class WardPatientCopy(FederatedBase):
    __service__, __tablename__ = "ward_archive", "archived_patients"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class WardBillCopy(FederatedBase):
    __service__, __tablename__ = "ward_archive", "archived_bills"
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


class WardBedCopy(FederatedBase):
    __service__, __tablename__ = "ward_archive", "listed_beds"
    id: Mapped[int] = mapped_column(primary_key=True)


class WardPatient(FederatedBase):
    __service__, __tablename__ = "ward_desk", "Ward patients"  # A name that has to be quoted.
    __sync__ = [SyncRule(to=WardPatientCopy, strategy=CDC(), name="patients")]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class WardBed(FederatedBase):
    __service__, __tablename__ = "ward_desk", "ward_beds"
    __sync__ = [SyncRule(to=WardBedCopy, strategy=RealTime(), name="beds")]
    id: Mapped[int] = mapped_column(primary_key=True)


class WardVisitor(FederatedBase):
    __service__, __tablename__ = "ward_desk", "ward_visitors"
    __outbox__ = ["insert"]
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class WardBill(FederatedBase):
    __service__, __tablename__ = "ward_till", "ward_bills"
    __sync__ = [SyncRule(to=WardBillCopy, strategy=CDC(), name="bills")]
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


class WardDrug(FederatedDocument):
    __service__ = "ward_store"
    __outbox__ = ["insert"]
    name: str

    class Settings:
        name = "ward_drugs"


class WardLabel(FederatedDocument):
    __service__ = "ward_store"
    text: str

    class Settings:
        name = "ward_labels"
