"""The peer's tables, by SQLAlchemy's declarative ORM; one module, as the service and the seeding need them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"

    sku: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=1)
    batches: Mapped[list[Batch]] = relationship(back_populates="product", cascade="all, delete-orphan")

    def find_line(self, orderid: str) -> tuple[Batch, OrderLine] | None:
        return next(((b, line) for b in self.batches for line in b.lines if line.orderid == orderid), None)


class Batch(Base):
    __tablename__ = "batch"

    reference: Mapped[str] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(ForeignKey("product.sku"), index=True)
    purchased_quantity: Mapped[int]
    eta: Mapped[date | None]
    product: Mapped[Product] = relationship(back_populates="batches")
    lines: Mapped[list[OrderLine]] = relationship(cascade="all, delete-orphan")

    @property
    def available_quantity(self) -> int:
        return self.purchased_quantity - sum(line.qty for line in self.lines)


class OrderLine(Base):
    __tablename__ = "order_line"

    orderid: Mapped[str] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(primary_key=True)
    reference: Mapped[str] = mapped_column(ForeignKey("batch.reference"), index=True)
    qty: Mapped[int]
    allocated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Outbox(Base):
    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    done_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (Index("outbox_pending", "id", postgresql_where=done_at.is_(None)),)


def engine_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://")
