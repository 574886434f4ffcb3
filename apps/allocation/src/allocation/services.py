"""The service layer: each command's handler changes one product in one unit; each event's handlers follow it up.

The view handlers write what the product says now, not what the event said: whatever order or number of times
they run in, the rows end the same.
"""

from logging import Logger

from allocation.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.events import Allocated, BatchAdded, BatchQuantityChanged, Deallocated
from allocation.events import OutOfStock as OutOfStockEvent
from allocation.models import Batch, OrderLine, Product
from allocation.publisher import Publisher
from allocation.repositories import AllocationViewModelRepository, ProductRepository
from allocation.uow import UnitOfWork
from allocation.viewmodels import AllocationsViewModel, view_id
from wintry.bus import MessageQueue, command_handler, event_handler
from wintry.ioc import provider

BOARD_CHANNEL = "board_changed"
"""The internal channel that tells every process's stock board which product changed."""


class InvalidSku(Exception):
    """An order for a sku that no batch was ever added for."""


class BatchExists(Exception):
    """A reference that is in use for another batch."""


class UnknownBatch(LookupError):
    """A reference of no batch."""


@provider
class MessageBus(MessageQueue):
    uow: UnitOfWork
    logger: Logger
    sender: Publisher
    products: ProductRepository
    allocations: AllocationViewModelRepository

    @command_handler
    async def allocate(self, command: Allocate) -> str | None:
        """The reference of the batch that holds the line, or None when the product is out of stock."""
        line = OrderLine(orderid=command.orderid, sku=command.sku, qty=command.qty)
        async with self.uow as uow:
            product = await uow.products.get_by_sku_for_update(sku=line.sku)
            if product is None:
                raise InvalidSku(f"Invalid sku {line.sku}")
            known = product.find_line(line.orderid) is not None
            batchref = product.allocate(line)
            if batchref is None:
                self.register(OutOfStockEvent(orderid=line.orderid, sku=line.sku, qty=line.qty))
            elif not known:
                self.register(Allocated(orderid=line.orderid, sku=line.sku, qty=line.qty, batchref=batchref))
                self.logger.info(f"Allocated {line}")
            await uow.commit()
        return batchref

    @command_handler
    async def add_batch(self, command: CreateBatch) -> None:
        async with self.uow as uow:
            product = await uow.products.get_by_sku_for_update(sku=command.sku)
            if (holder := await uow.products.get_by_batches__reference(batches__reference=command.ref)) is not None:
                require_same(holder.batch(command.ref), command)
                return
            if product is None:
                product = await uow.products.create(entity=Product(sku=command.sku))
            product.batches.append(
                Batch(reference=command.ref, purchased_quantity=command.qty, sku=command.sku, eta=command.eta)
            )
            self.register(BatchAdded(sku=command.sku, ref=command.ref))
            await uow.commit()
        self.logger.info(f"Created Batch {command.ref}")

    @command_handler
    async def change_batch_quantity(self, cmd: ChangeBatchQuantity) -> None:
        async with self.uow as uow:
            product = await uow.products.get_by_batches__reference_for_update(batches__reference=cmd.ref)
            if product is None:
                raise UnknownBatch(f"Unknown batch {cmd.ref}")
            self.register(BatchQuantityChanged(sku=product.sku, ref=cmd.ref, qty=cmd.qty))
            for line in product.change_batch_quantity(cmd.ref, cmd.qty):
                self.register(Deallocated(**line.to_dict(), batchref=cmd.ref))
            await uow.commit()

    @event_handler
    async def reallocate(self, event: Deallocated) -> None:
        self.register(Allocate(orderid=event.orderid, sku=event.sku, qty=event.qty))

    @event_handler
    async def save_allocation_view(self, event: Allocated) -> None:
        await self.write_view(event.orderid, event.sku)

    @event_handler
    async def delete_allocation_view(self, event: Deallocated) -> None:
        await self.write_view(event.orderid, event.sku)

    @event_handler
    async def announce_allocated(self, event: Allocated) -> None:
        await self.announce("line_allocated", event)

    @event_handler
    async def announce_deallocated(self, event: Deallocated) -> None:
        await self.announce("line_deallocated", event)

    @event_handler
    async def announce_out_of_stock(self, event: OutOfStockEvent) -> None:
        await self.sender.send("out_of_stock", event.model_dump())

    @event_handler
    async def announce_batch_added(self, event: BatchAdded) -> None:
        await self.sender.send(BOARD_CHANNEL, {"sku": event.sku})

    @event_handler
    async def announce_batch_changed(self, event: BatchQuantityChanged) -> None:
        await self.sender.send(BOARD_CHANNEL, {"sku": event.sku})

    async def announce(self, channel: str, event: Allocated | Deallocated) -> None:
        """Tell other services, and then every stock board of this one."""
        await self.sender.send(channel, event.model_dump())
        await self.sender.send(BOARD_CHANNEL, {"sku": event.sku})

    async def write_view(self, orderid: str, sku: str) -> None:
        """Make the view's row of a line say what the product says now."""
        product = await self.products.get_by_sku(sku=sku)
        found = product.find_line(orderid) if product else None
        if found is None:
            await self.allocations.delete_by_orderid_and_sku(orderid=orderid, sku=sku)
        else:
            batch, line = found
            await self.allocations.upsert(
                entity=AllocationsViewModel(
                    id=view_id(orderid, sku),
                    orderid=orderid,
                    sku=sku,
                    batchref=batch.reference,
                    allocated_at=line.allocated_at,
                )
            )
        self.logger.info(f"Synced Allocation View of order {orderid}, {sku}")


def require_same(batch: Batch | None, command: CreateBatch) -> None:
    """Refuse a command whose reference is in use for other data than it carries."""
    if batch is None or (batch.sku, batch.purchased_quantity, batch.eta) != (command.sku, command.qty, command.eta):
        raise BatchExists(f"Batch {command.ref} exists")
