#include "common/path.h"
