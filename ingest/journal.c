#include "ingest/journal.h"
