/* unit.h - what every test program includes: cmocka, whose header needs these four before it. */
#ifndef SR_TESTS_UNIT_H
#define SR_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#endif
