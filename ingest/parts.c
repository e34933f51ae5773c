#include "ingest/parts.h"
