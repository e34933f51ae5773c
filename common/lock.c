#include "common/lock.h"
