/* quire/quire.h - all of the library's faces. */
#ifndef QUIRE_QUIRE_H
#define QUIRE_QUIRE_H

#include <quire/async_map.h>
#include <quire/blob.h>
#include <quire/cache.h>
#include <quire/error.h>
#include <quire/loop.h>
#include <quire/map.h>
#include <quire/mdc.h>
#include <quire/store.h>

#endif
