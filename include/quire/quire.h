/* quire/quire.h - all of the library's faces. */
#ifndef QUIRE_QUIRE_H
#define QUIRE_QUIRE_H

#include <quire/anon.h>
#include <quire/async_map.h>
#include <quire/blob.h>
#include <quire/cache.h>
#include <quire/error.h>
#include <quire/log.h>
#include <quire/loop.h>
#include <quire/map.h>
#include <quire/mdc.h>
#include <quire/nbd.h>
#include <quire/store.h>
#include <quire/tmem.h>
#include <quire/tmem_memcached.h>
#include <quire/tmem_service.h>
#include <quire/tmem_store.h>
#include <quire/ublk.h>
#include <quire/volume.h>

#endif
