#include "ingest/scan.h"
