/* variants.c - what is wrong with the file itself; `run` compiles one of these into the plugin. */
#include <penstock/plugin.h>

#if defined(VARIANT_EXPORTS_MORE)
PST_EXPORT int mutant_extra(void);
int mutant_extra(void)
{
    return 1;
}
#elif defined(VARIANT_UNDEFINED_PST_SYMBOL)
extern void pst_context_new(void) __attribute__((weak));
int mutant_uses_symbol(void);
int mutant_uses_symbol(void)
{
    return pst_context_new != NULL;
}
#elif defined(VARIANT_STATIC_TLS)
static __thread int mutant_tls __attribute__((tls_model("initial-exec")));
int mutant_uses_tls(void);
int mutant_uses_tls(void)
{
    return ++mutant_tls;
}
#elif defined(VARIANT_TEXT_RELOCATION)
/* An absolute address in the code segment. */
__asm__(".text\n.balign 8\nmutant_address:\n.dc.a pst_plugin_open_1\n");
#else
int mutant_variant_none(void);
int mutant_variant_none(void)
{
    return 0;
}
#endif
