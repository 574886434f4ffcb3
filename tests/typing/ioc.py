"""What checkers know of marked classes, of injected functions and of what a scope returns.

The two ignores are expected errors: a checker that stops reporting them reports the ignore instead.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Protocol, assert_type

from wintry.ioc import Container, Named, Plan, inject, injected, provider


class Publisher(Protocol):
    def send(self) -> int: ...


class Session: ...


@provider
class Service:
    session: Session
    retries: int = 3


@provider(of=Publisher, lifetime="scoped")
class Mail:
    session: Session

    def send(self) -> int:
        return 1


@provider(lifetime="singleton")
async def session() -> AsyncIterator[Session]:
    yield Session()


@inject
async def job(day: int, service: Service = injected()) -> str:
    return f"{day} {service}"


by_hand = Service(session=Session(), retries=5)
Mail(session=Session())
Service()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Mail()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def main(container: Container) -> None:
    assert_type(container.compile(Service), Plan[Service])
    async with container.scope() as scope:
        assert_type(await scope.get(Service), Service)
        assert_type(await scope.get(Publisher), Publisher)
        assert_type(await scope.get(list[Publisher]), list[Publisher])
        assert_type(await scope.get(Annotated[Publisher, Named("mail")]), Publisher)
        assert_type(scope.get_nowait(Mail), Mail)
        assert_type(await job(1), str)
