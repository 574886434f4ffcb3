"""The objects of a request, wired by hand: a graph of 4 and one of 10, below a singleton that exists."""


class Settings: ...


class Repository:
    def __init__(self, *, settings: Settings) -> None:
        self.settings = settings


class Unit:
    def __init__(self, *, repository: Repository) -> None:
        self.repository = repository


class Bus:
    def __init__(self, *, unit: Unit, repository: Repository) -> None:
        self.unit = unit
        self.repository = repository


class Controller:
    def __init__(self, *, bus: Bus, unit: Unit) -> None:
        self.bus = bus
        self.unit = unit


class Clock:
    def __init__(self, *, settings: Settings) -> None:
        self.settings = settings


class User:
    def __init__(self, *, repository: Repository, clock: Clock) -> None:
        self.repository = repository
        self.clock = clock


class Audit:
    def __init__(self, *, user: User, unit: Unit) -> None:
        self.user = user
        self.unit = unit


class Views:
    def __init__(self, *, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock


class Mailer:
    def __init__(self, *, audit: Audit, clock: Clock) -> None:
        self.audit = audit
        self.clock = clock


class Endpoint:
    def __init__(self, *, controller: Controller, mailer: Mailer, views: Views, user: User) -> None:
        self.controller = controller
        self.mailer = mailer
        self.views = views
        self.user = user


FOUR = (Repository, Unit, Bus, Controller)
TEN = (*FOUR, Clock, User, Audit, Views, Mailer, Endpoint)


def controller(settings: Settings) -> Controller:
    repository = Repository(settings=settings)
    unit = Unit(repository=repository)
    return Controller(bus=Bus(unit=unit, repository=repository), unit=unit)


def endpoint(settings: Settings) -> Endpoint:
    repository = Repository(settings=settings)
    unit = Unit(repository=repository)
    bus = Bus(unit=unit, repository=repository)
    clock = Clock(settings=settings)
    user = User(repository=repository, clock=clock)
    return Endpoint(
        controller=Controller(bus=bus, unit=unit),
        mailer=Mailer(audit=Audit(user=user, unit=unit), clock=clock),
        views=Views(settings=settings, clock=clock),
        user=user,
    )
