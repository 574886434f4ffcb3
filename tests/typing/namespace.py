"""Every portion of the `wintry` namespace is found, and typed, by whoever imports it."""

import wintry.bus
import wintry.ioc
import wintry.models
import wintry.repository
import wintry.uow
import wintry.web

PORTIONS = (wintry.bus, wintry.ioc, wintry.models, wintry.repository, wintry.uow, wintry.web)
