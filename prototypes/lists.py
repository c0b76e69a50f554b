from exp2 import *
import scipy.sparse as sp
def cuts_of(D,block,every=10,end=None):
    """Row numbers (global) at which a cut is made: first row of the block of each user, then every `every` rows while >=1 rows remain."""
    r=np.flatnonzero(block); u=D.user[r]; f,e=starts_of(u); pos=np.arange(len(r))-np.repeat(f,e-f)
    return r[pos%every==0]
def window(D,cuts,N,first):
    r=cuts[:,None]-N+np.arange(N); pad=r<first[cuts][:,None]; r=np.maximum(r,0)
    return np.where(pad,0,D.item[r]),np.where(pad,0,D.label[r]),pad
@torch.no_grad()
def states_at(m,D,cuts,first):
    N=m.c.N; out=[]
    n=np.minimum(cuts-first[cuts],N)
    for i in range(0,len(cuts),512):
        s=slice(i,i+512); r=(cuts[s]-n[s])[:,None]+np.arange(max(n[s].max(),1)); pad=r>=cuts[s][:,None]; r=np.minimum(r,len(D.item)-1)
        p=torch.tensor(pad); h=m(torch.tensor(D.item[r]).masked_fill(p,0),torch.tensor(D.label[r]).masked_fill(p,0),p,torch.tensor(np.maximum(n[s]-1,0))[:,None],torch.tensor(D.user[cuts[s]]) if m.c.uid else None)
        out.append(h[:,0].numpy())
    return np.concatenate(out)
def cooc(D,rows,W=10,K=None,liked_only=False):
    """sp [I,I]: count of j among the W rows after i, same user; directed; returned as P(j|i) with shrinkage and as lift."""
    it,us,lb=D.item[rows],D.user[rows],D.label[rows]; I=D.I
    C=sp.csr_matrix((I,I),dtype=np.float32)
    for k in range(1,W+1):
        ok=us[k:]==us[:-k]
        if liked_only: ok&=lb[k:]==1
        C=C+sp.csr_matrix((np.ones(ok.sum(),np.float32),(it[:-k][ok],it[k:][ok])),(I,I))
    return C
@dataclass
class Lists:
    user:np.ndarray; cut:np.ndarray; items:np.ndarray; score:np.ndarray; y:np.ndarray; npos:np.ndarray; X:np.ndarray; names:list; seq:np.ndarray; liked:np.ndarray; n10:np.ndarray=None; inter:np.ndarray=None
def build(D,m,fitrows,cuts,horizon_end,deepfm=None,fm=None,M=200,horizon=10,Nseq=50):
    """m fitted on fitrows. cuts: global rows. horizon_end[row] = exclusive end of label rows."""
    f,e=starts_of(D.user); first=np.repeat(f,e-f)
    import tower_training as tt
    S_=tt.Sequences.of(D.user,D.item,D.label,D.I); h=tt.user_vectors(m,*S_.windows(cuts,m.shape.window)); iv_=m.item_vectors(); tab=iv_[:,:-1]; b=iv_[:,-1]; h=h[:,:-1]
    n=len(cuts); items=np.zeros((n,M),np.int64); score=np.zeros((n,M),np.float32); logp=np.zeros((n,M),np.float32)
    for i in range(0,n,512):
        s=slice(i,i+512); S=h[s]@tab.T+b; c=cuts[s]; cnt=c-first[c]; ri=np.repeat(np.arange(len(c)),cnt)
        pos=np.arange(cnt.sum())-np.repeat(np.cumsum(cnt)-cnt,cnt)+np.repeat(first[c],cnt)
        S[ri,D.item[pos]]=-np.inf; S[:,0]=-np.inf
        t=torch.topk(torch.tensor(S),M,1); items[s]=t.indices.numpy(); score[s]=t.values.numpy()
        logp[s]=score[s]-torch.logsumexp(torch.tensor(S),1).numpy()[:,None]
    T=cuts[:,None]+np.arange(horizon); ok=(T<horizon_end[cuts][:,None]); T=np.minimum(T,len(D.item)-1)
    ti=np.where(ok,D.item[T],-1); tl=ok&(D.label[T]==1)
    y=((items[:,:,None]==ti[:,None,:])&tl[:,None,:]).any(2); inter=(items[:,:,None]==ti[:,None,:]).any(2)
    F_={}
    mu,sd=score.mean(1,keepdims=True),score.std(1,keepdims=True)+1e-6
    F_['z']=(score-mu)/sd; F_['logrank']=np.log1p(np.arange(M,dtype=np.float32))[None].repeat(n,0); F_['logp']=logp
    F_['top_gap']=score-score[:,:1]
    it,lb=D.item[fitrows],D.label[fitrows]; cnt=np.bincount(it,minlength=D.I).astype(np.float32); ps=np.bincount(it,lb,minlength=D.I)
    F_['logcnt']=np.log1p(cnt)[items]; F_['likeratio']=((ps+5*.57)/(cnt+5))[items]
    seq,lk,pad=window(D,cuts,Nseq,first)
    for nm,lo in (('co',False),('col',True)):
        C=cooc(D,fitrows,10,liked_only=lo); rowsum=np.asarray(C.sum(1)).ravel(); P=C.multiply(1/(rowsum+20)[:,None]).tocsr()
        base=(cnt/cnt.sum()).astype(np.float32)
        Pd=P.toarray() if D.I<6000 else None
        for k in ((1,3,10,50) if not lo else (10,)):
            acc=np.zeros((n,M),np.float32); accp=np.zeros((n,M),np.float32)
            for j in range(1,min(k,Nseq)+1):
                p=Pd[seq[:,-j][:,None],items]*(~pad[:,-j])[:,None]
                acc+=p
                if k==10: accp+=p*lk[:,-j][:,None]
            F_[f'{nm}{k}']=np.log(acc/k+1e-5)
            if k==10: F_[f'{nm}{k}pos']=np.log(accp/k+1e-5)
            F_[f'{nm}{k}lift']=np.log((acc/k+1e-5)/(base[items]+1e-5))
    # embedding similarity with the last items
    En=tab/np.linalg.norm(tab,axis=1,keepdims=True).clip(1e-6)
    for k in (1,5):
        v=(En[seq[:,-k:]]*(~pad[:,-k:])[...,None]).mean(1); F_[f'cos{k}']=np.einsum('nmd,nd->nm',En[items],v)
    F_['nev']=np.log(cuts-first[cuts]+1.)[:,None].repeat(M,1); F_['likeshare']=(lk.sum(1)/np.maximum((~pad).sum(1),1))[:,None].repeat(M,1)
    if deepfm is not None: F_['deepfm']=deepfm(cuts,items)
    if fm is not None:
        uv,iv=fm; s=np.einsum('nmd,nd->nm',iv[items],uv[D.user[cuts]]); F_['fm']=(s-s.mean(1,keepdims=True))/(s.std(1,keepdims=True)+1e-6)
    g=D.flags; gl=np.stack([ (g[seq[:,-10:]]*(lk[:,-10:])[...,None]).sum(1), (g[seq[:,-10:]]*((1-lk[:,-10:])*~pad[:,-10:])[...,None]).sum(1)],0)
    F_['gpos']=np.einsum('nmg,ng->nm',g[items],gl[0])/np.maximum(g[items].sum(2),1); F_['gneg']=np.einsum('nmg,ng->nm',g[items],gl[1])/np.maximum(g[items].sum(2),1)
    return Lists(D.user[cuts],cuts,items,score,y,tl.sum(1),np.stack(list(F_.values()),2).astype(np.float32),list(F_),seq,lk+0,None,inter)
G=1/np.log2(np.arange(2,202))
def ndcg_lists(L,s):
    o=np.argsort(-s,1,kind='stable'); hit=np.take_along_axis(L.y,o,1); n=L.npos
    out=[(hit[:,:k]*G[:k]).sum(1)/np.r_[1e9,np.cumsum(G)][np.minimum(n,k)] for k in (10,50)]
    return np.stack(out+[hit[:,:50].sum(1)/np.maximum(n,1)],1)[n>0]
