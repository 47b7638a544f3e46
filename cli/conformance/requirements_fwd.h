/* requirements_fwd.h - declares the function behind each row of requirements.h. */
#ifndef PST_KIT_REQUIREMENTS_FWD_H
#define PST_KIT_REQUIREMENTS_FWD_H

#include "kit.h"

#define K_REQ(group, number, profile, text, rule) void k_##group##_##number(struct k_test *t);
#include "requirements.h"
#undef K_REQ

#endif
