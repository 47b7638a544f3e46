/* points.h - moments in a plugin's work at which a test may act: before and after it looks at a file, and
 * when it has just read from one. */
#ifndef PST_TEST_POINTS_H
#define PST_TEST_POINTS_H

/* Call act(arg) at the n-th point from now (1 is the next), on the thread that reached it. */
void points_arm(unsigned n, void (*act)(void *arg), void *arg);

/* Stop. Was the n-th point reached? */
int points_disarm(void);

#endif
