/* penstock.h - all of the host API. Plugin vendors include <penstock/plugin.h> instead. */
#ifndef PENSTOCK_PENSTOCK_H
#define PENSTOCK_PENSTOCK_H

#include <penstock/base.h>
#include <penstock/buffer.h>
#include <penstock/call.h>
#include <penstock/context.h>
#include <penstock/list.h>
#include <penstock/many.h>
#include <penstock/object.h>
#include <penstock/plugins.h>
#include <penstock/queue.h>
#include <penstock/reader.h>
#include <penstock/status.h>
#include <penstock/store.h>
#include <penstock/sum.h>
#include <penstock/uri.h>
#include <penstock/writer.h>

#endif
