/* A library with the interface of libllama, for tests of what calls it: a model of 64 tokens whose next token depends on
   the last one, its position, and whether the sequence begins with token 1. LAYOUT says which llama.cpp's structs it
   has; LACKS and others leave out or break what tests ask for.

   The structs are written after llama.h of the versions named below; only what comes before the last field that is used
   has to be right, and the length. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOCABULARY 64

typedef void (*log_callback)(int level, const char * text, void * data);

struct llama_model_params {
#if LAYOUT == 9 /* of no llama.cpp: three pointers before what is set */
    void * unknown;
#endif
    void * devices;
#if LAYOUT != 1 /* until spring of 2025 */
    void * tensor_buft_overrides;
#endif
    int32_t n_gpu_layers, split_mode;
#if LAYOUT == 4 /* since summer of 2026 */
    int32_t load_mode, lazy_mode;
#endif
    int32_t main_gpu;
    void * others[4];
    bool flags[6];
};

struct llama_context_params {
#if LAYOUT == 8 /* of no llama.cpp (as before May 2024): something stands before what is set */
    uint32_t seed;
#endif
    uint32_t n_ctx, n_batch, n_ubatch, n_seq_max;
#if LAYOUT >= 3 && LAYOUT < 8 /* since spring of 2026 */
    uint32_t n_rs_seq;
#endif
#if LAYOUT == 4
    uint32_t n_outputs_max, n_outputs_max_per_seq;
#endif
    int32_t n_threads, n_threads_batch;
#if LAYOUT >= 3 && LAYOUT < 8
    int32_t ctx_type;
#endif
    int32_t rope_scaling_type, pooling_type, attention_type;
    float floats[8];
    void * others[8];
    bool flags[8];
};

struct llama_batch {
    int32_t n_tokens;
    int32_t * token;
    float * embd;
    int32_t * pos;
    int32_t * n_seq_id;
    int32_t ** seq_id;
    int8_t * logits;
};

struct model {
    unsigned seed;
};

struct context {
    struct model * model;
    struct llama_context_params params;
    float * logits;
};

static log_callback callback;

static void say(int level, const char * text) {
    if (callback) {
        callback(level, text, NULL);
    }
}

void llama_log_set(log_callback set, void * data) {
    callback = set;
}

void llama_backend_init(void) {}

const char * ggml_version(void) {
#ifdef OLDER
    return "0.0.6";
#else
    return "0.0.7";
#endif
}

const char * ggml_commit(void) {
    return "unknown";
}

struct llama_model_params llama_model_default_params(void) {
    struct llama_model_params result;
    memset(&result, 0, sizeof result);
    result.n_gpu_layers = LAYOUT == 1 ? 0 : LAYOUT == 2 ? 999 : -1;
    result.split_mode = 1;
    return result;
}

struct llama_context_params llama_context_default_params(void) {
    struct llama_context_params result;
    memset(&result, 0, sizeof result);
#if LAYOUT == 8
    result.seed = 0xFFFFFFFF;
#endif
    result.n_ctx = 512;
    result.n_batch = 2048;
    result.n_ubatch = 512;
    result.n_seq_max = 1;
    result.n_threads = result.n_threads_batch = 4;
    result.rope_scaling_type = result.pooling_type = result.attention_type = -1;
    return result;
}

void * llama_model_load_from_file(const char * path, struct llama_model_params params) {
    char text[100];
    snprintf(text, sizeof text, "gpu layers: %d\n", params.n_gpu_layers);
    say(2, text);
    FILE * file = fopen(path, "rb");
    char head[5] = {0};
    struct model * model = calloc(1, sizeof *model);
    if (file && fread(head, 1, sizeof head, file) == sizeof head) {
        model->seed = (unsigned char) head[4];
    }
    fclose(file);
    if (model->seed == 'x') {
        say(4, "llama_model_load: error loading model: it is no model\n");
        return NULL;
    }
    return model;
}

void llama_model_free(void * model) {
    free(model);
}

const void * llama_model_get_vocab(const void * model) {
    return model;
}

bool llama_model_has_encoder(const void * model) {
    return false;
}

int32_t llama_vocab_n_tokens(const void * vocab) {
    return VOCABULARY;
}

int llama_vocab_type(const void * vocab) {
    return 1;
}

const char * llama_vocab_get_text(const void * vocab, int32_t token) {
    static char text[20];
    snprintf(text, sizeof text, "<%d>", token);
    return text;
}

#ifndef NO_PIECES
int32_t llama_token_to_piece(
    const void * vocab, int32_t token, char * text, int32_t length, int32_t lstrip, bool special
) {
    char piece[200];
    int size = snprintf(piece, sizeof piece, "<%d>%*s", token, token == 60 ? 100 : 0, ""); /* 60 is a long one */
    if (size > length) {
        return -size;
    }
    memcpy(text, piece, size);
    return size;
}
#endif

#ifdef ENDS /* the token that ends a text */
bool llama_vocab_is_eog(const void * vocab, int32_t token) {
    return token == ENDS;
}
#endif

bool llama_vocab_get_add_bos(const void * vocab) {
    return true;
}

int32_t llama_vocab_bos(const void * vocab) {
    return 1;
}

int32_t llama_tokenize(
    const void * vocab, const char * text, int32_t length, int32_t * tokens, int32_t most, bool special, bool parse
) {
    tokens[0] = 1;
    for (int i = 0; i < length; ++i) {
        tokens[i + 1] = (unsigned char) text[i] % VOCABULARY;
    }
    return length + 1;
}

void * llama_init_from_model(void * model, struct llama_context_params params) {
    struct context * context = calloc(1, sizeof *context);
    context->model = model;
    context->params = params;
    char text[100];
    snprintf(text, sizeof text, "sequences: %u, computed at a time: %u\n", params.n_seq_max, params.n_ubatch);
    say(2, text);
#ifdef OTHER_CONTEXT /* what was asked for doesn't arrive */
    context->params.n_seq_max += 1;
#endif
    return context;
}

void llama_free(struct context * context) {
    free(context->logits);
    free(context);
}

uint32_t llama_n_ctx(const struct context * context) {
    return (context->params.n_ctx + 255) / 256 * 256;
}

uint32_t llama_n_batch(const struct context * context) {
    return context->params.n_batch;
}

uint32_t llama_n_ubatch(const struct context * context) {
    return context->params.n_ubatch;
}

uint32_t llama_n_seq_max(const struct context * context) {
#if LAYOUT == 1 /* as until spring of 2025: the cells of the cache */
    return llama_n_ctx(context);
#endif
    return context->params.n_seq_max;
}

void llama_set_n_threads(struct context * context, int32_t n_threads, int32_t n_threads_batch) {
    char text[100];
    snprintf(text, sizeof text, "threads: %d %d\n", n_threads, n_threads_batch);
    say(2, text);
}

#if LAYOUT == 1
void llama_kv_cache_clear(struct context * context) {
    say(2, "cleared\n");
}
#elif LAYOUT == 2
void llama_kv_self_clear(struct context * context) {
    say(2, "cleared\n");
}
#else
void * llama_get_memory(struct context * context) {
    return context;
}

void llama_memory_clear(void * memory, bool data) {
    say(2, "cleared\n");
}
#endif

struct llama_batch llama_batch_init(int32_t n_tokens, int32_t embd, int32_t n_seq_max) {
    struct llama_batch batch = {0};
    batch.token = malloc(sizeof(int32_t) * n_tokens);
    batch.pos = malloc(sizeof(int32_t) * n_tokens);
    batch.n_seq_id = malloc(sizeof(int32_t) * n_tokens);
    batch.seq_id = malloc(sizeof(int32_t *) * (n_tokens + 1));
    for (int i = 0; i < n_tokens; ++i) {
        batch.seq_id[i] = malloc(sizeof(int32_t) * n_seq_max);
    }
    batch.seq_id[n_tokens] = NULL;
    batch.logits = malloc(n_tokens);
#ifdef OTHER_BATCH
    batch.n_tokens = n_tokens;
#endif
    return batch;
}

void llama_batch_free(struct llama_batch batch) {
    free(batch.token);
    free(batch.pos);
    free(batch.n_seq_id);
    for (int i = 0; batch.seq_id[i]; ++i) {
        free(batch.seq_id[i]);
    }
    free(batch.seq_id);
    free(batch.logits);
}

int32_t llama_decode(struct context * context, struct llama_batch batch) {
#ifdef DIES
    abort();
#endif
    free(context->logits);
    context->logits = malloc(sizeof(float) * VOCABULARY * batch.n_tokens);
    float * row = context->logits;
    int first = 0; /* token of the sequence */
    for (int i = 0; i < batch.n_tokens; ++i) {
        if (batch.pos[i] == 0) {
            first = batch.token[i];
        }
        if (batch.logits[i]) {
            for (int token = 0; token < VOCABULARY; ++token) {
                row[token] = sinf(batch.token[i] * 3.7f + token * 1.3f + batch.pos[i] * 0.1f) * (first == 1 ? 4 : 3)
                    + context->model->seed * 1e-2f * (token % 5);
            }
            row += VOCABULARY;
        }
    }
    return 0;
}

#ifndef LACKS
float * llama_get_logits(struct context * context) {
    return context->logits;
}
#endif

#ifdef DYNAMIC /* as releases: no backend until they are loaded from a folder */
static size_t devices = 0;

void ggml_backend_load_all_from_path(const char * folder) {
    say(2, folder ? folder : "elsewhere");
    devices = DYNAMIC == 3 ? 0 : DYNAMIC == 2 && folder ? 0 : 2;
}
#else
static size_t devices = 2;
#endif

size_t ggml_backend_dev_count(void) {
    return devices;
}

void * ggml_backend_dev_get(size_t index) {
    return (void *) (index + 1);
}

const char * ggml_backend_dev_name(void * device) {
    return device == (void *) 1 ? "FAKE0" : "CPU";
}

const char * ggml_backend_dev_description(void * device) {
    return device == (void *) 1 ? "A graphics card" : "A processor";
}

int ggml_backend_dev_type(void * device) {
    return device == (void *) 1 ? 1 : 0;
}

void ggml_backend_dev_memory(void * device, size_t * free, size_t * total) {
    *free = device == (void *) 1 ? (size_t) 7 << 30 : 0;
    *total = device == (void *) 1 ? (size_t) 8 << 30 : 0;
}
