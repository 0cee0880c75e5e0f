// Stands in for the image decoder that the module of Ollama leaves out: no picture is ever decoded.
#pragma once

static inline unsigned char * stbi_load_from_memory(const unsigned char *, int, int *, int *, int *, int) {
    return nullptr;
}
static inline void stbi_image_free(void *) {}
