; What numba's arrays need of numba's runtime, so that kernels run without it: memory for arrays that they make, and
; the strides of arrays that they reshape. The names, the arguments and the layout of MemInfo are numba's (nrt.cpp,
; _helperlib.c).

declare ptr @malloc(i64)
declare void @free(ptr)

%MemInfo = type { i64, ptr, ptr, ptr, i64, ptr } ; references, dtor, dtor_info, data, size, allocator

; MemInfo and the array's data in one piece of memory, the data aligned as it is asked for.
define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align32) {
  %align = zext i32 %align32 to i64
  %header = ptrtoint ptr getelementptr (%MemInfo, ptr null, i64 1) to i64
  %both = add i64 %size, %header
  %total = add i64 %both, %align
  %info = call ptr @malloc(i64 %total)
  %failed = icmp eq ptr %info, null
  br i1 %failed, label %nothing, label %found

nothing:
  ret ptr null

found:
  %behind = getelementptr %MemInfo, ptr %info, i64 1
  %address = ptrtoint ptr %behind to i64
  %less = sub i64 %align, 1
  %raised = add i64 %address, %less
  %negative = sub i64 0, %align
  %aligned = and i64 %raised, %negative
  %data = inttoptr i64 %aligned to ptr
  %head = insertvalue %MemInfo { i64 1, ptr null, ptr null, ptr null, i64 0, ptr null }, ptr %data, 3
  %whole = insertvalue %MemInfo %head, i64 %size, 4
  store %MemInfo %whole, ptr %info
  ret ptr %info
}

; numba's runtime calls this when nothing refers to the array any more.
define void @NRT_MemInfo_call_dtor(ptr %info) {
  call void @free(ptr %info)
  ret void
}

; numba reshapes C-contiguous arrays only, so the new strides follow from the new shape alone. 1: it can be done.
define i32 @numba_attempt_nocopy_reshape(i64 %ndim, ptr %shape, ptr %strides, i64 %new_ndim, ptr %new_shape,
                                         ptr %new_strides, i64 %itemsize, i32 %is_fortran) {
begin:
  br label %next

next:
  %left = phi i64 [ %new_ndim, %begin ], [ %axis, %one ]
  %stride = phi i64 [ %itemsize, %begin ], [ %longer, %one ]
  %any = icmp sgt i64 %left, 0
  br i1 %any, label %one, label %done

one:
  %axis = sub i64 %left, 1
  %to = getelementptr i64, ptr %new_strides, i64 %axis
  store i64 %stride, ptr %to
  %from = getelementptr i64, ptr %new_shape, i64 %axis
  %length = load i64, ptr %from
  %longer = mul i64 %stride, %length
  br label %next

done:
  ret i32 1
}
