#include "common/catalog.h"
